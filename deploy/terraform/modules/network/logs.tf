resource "aws_cloudwatch_log_group" "rejected" {
  count = var.log_days > 0 ? 1 : 0

  name              = "/sskai/${var.name}/rejected-connections"
  retention_in_days = var.log_days
}

resource "aws_iam_role" "flow_logs" {
  count = var.log_days > 0 ? 1 : 0

  name = "${var.name}-flow-logs"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
    }]
  })
}

# It may not make log groups: one that is deleted stays deleted.
resource "aws_iam_role_policy" "flow_logs" {
  count = var.log_days > 0 ? 1 : 0

  name = "write"
  role = aws_iam_role.flow_logs[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      Resource = [aws_cloudwatch_log_group.rejected[0].arn, "${aws_cloudwatch_log_group.rejected[0].arn}:*"]
    }]
  })
}

resource "aws_flow_log" "rejected" {
  count = var.log_days > 0 ? 1 : 0

  vpc_id          = aws_vpc.this.id
  traffic_type    = "REJECT"
  log_destination = aws_cloudwatch_log_group.rejected[0].arn
  iam_role_arn    = aws_iam_role.flow_logs[0].arn

  tags = { Name = var.name }
}
