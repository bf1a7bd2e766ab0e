resource "aws_kms_key" "this" {
  description             = "Kafka of ${var.name}: disks and password"
  enable_key_rotation     = true
  deletion_window_in_days = var.kms_deletion_days
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-kafka"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_cloudwatch_log_group" "brokers" {
  name              = "/sskai/${var.name}/kafka"
  retention_in_days = var.log_days
}

resource "aws_security_group" "brokers" {
  name        = "${var.name}-kafka"
  description = "Kafka brokers"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-kafka" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id            = aws_security_group.brokers.id
  description                  = "The cluster's nodes"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 9096
  to_port                      = 9096

  tags = { Name = "${var.name}-kafka" }
}

# Topics are made by SSKAI alone, by the contract's names: a misspelt one is an error, not a new topic.
resource "aws_msk_configuration" "this" {
  name           = "${var.name}-kafka"
  kafka_versions = [var.kafka_version]

  server_properties = <<-PROPERTIES
    auto.create.topics.enable=false
    default.replication.factor=${length(var.subnet_ids)}
    min.insync.replicas=2
    num.partitions=${var.partitions}
    unclean.leader.election.enable=false
    offsets.topic.replication.factor=${length(var.subnet_ids)}
    transaction.state.log.replication.factor=${length(var.subnet_ids)}
  PROPERTIES

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_msk_cluster" "this" {
  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = length(var.subnet_ids)

  broker_node_group_info {
    instance_type   = var.instance_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.brokers.id]

    storage_info {
      ebs_storage_info {
        volume_size = var.disk_gib
      }
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = aws_kms_key.this.arn

    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  client_authentication {
    unauthenticated = false

    sasl {
      scram = true
    }
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.brokers.name
      }
    }
  }
}

resource "aws_msk_scram_secret_association" "this" {
  cluster_arn     = aws_msk_cluster.this.arn
  secret_arn_list = var.secret_arns
}
