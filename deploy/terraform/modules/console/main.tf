# The load balancer before the gateway belongs to Terraform, not to the cluster: its address stands before Helm runs, and
# nothing of it is left when the cluster is gone.
resource "aws_security_group" "balancer" {
  name        = "${var.name}-console"
  description = "Console and API"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-console" }
}

resource "aws_vpc_security_group_ingress_rule" "https" {
  for_each = var.allowed_cidrs

  security_group_id = aws_security_group.balancer.id
  description       = "https"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = { Name = "${var.name}-console" }
}

resource "aws_vpc_security_group_egress_rule" "nodes" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "The gateway"
  referenced_security_group_id = var.node_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.node_port
  to_port                      = var.node_port

  tags = { Name = "${var.name}-console" }
}

resource "aws_vpc_security_group_ingress_rule" "nodes" {
  security_group_id            = var.node_security_group_id
  description                  = "The load balancer to the gateway"
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = var.node_port
  to_port                      = var.node_port

  tags = { Name = "${var.name}-console" }
}

resource "aws_lb" "this" {
  name                       = var.name
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = var.subnet_ids
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.protected
  idle_timeout               = 300 # as long as the gateway waits for a word of a model
}

resource "aws_lb_target_group" "gateway" {
  name                 = var.name
  target_type          = "instance"
  vpc_id               = var.vpc_id
  protocol             = "HTTP"
  port                 = var.node_port
  deregistration_delay = 30

  health_check {
    path                = "/readyz"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_autoscaling_attachment" "gateway" {
  autoscaling_group_name = var.node_autoscaling_group
  lb_target_group_arn    = aws_lb_target_group.gateway.arn
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "HTTPS"
  port              = 443
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateway.arn
  }
}

resource "aws_route53_record" "console" {
  zone_id = var.zone_id
  name    = var.domain
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}
