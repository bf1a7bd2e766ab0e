provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "passwords"
  region = var.region
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_iam_session_context" "current" {
  arn = data.aws_caller_identity.current.arn
}

data "aws_availability_zones" "open" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  tags   = merge(var.tags, { "sskai:installation" = var.name })
  zones  = length(var.zones) > 0 ? var.zones : slice(data.aws_availability_zones.open.names, 0, 3)
  bucket = var.bucket != "" ? var.bucket : "${var.name}-${data.aws_caller_identity.current.account_id}-${var.region}"

  # Pods of jobs sign in to Kafka as somebody else than the services, who are trusted with more.
  users = merge(
    { database = { username = "sskai", secret = "${var.name}/database" } },
    var.kafka != "msk" ? {} : {
      kafka      = { username = "sskai", secret = "AmazonMSK_${var.name}" }
      kafka-pods = { username = "sskai-pods", secret = "AmazonMSK_${var.name}-pods" }
    },
  )

  kms_deletion_days = var.throw_away ? 7 : 30
}

module "network" {
  source = "./modules/network"

  name                = var.name
  region              = var.region
  cidr                = var.vpc_cidr
  zones               = local.zones
  nat_per_zone        = var.nat_per_zone
  interface_endpoints = var.interface_endpoints
  log_days            = var.flow_logs ? var.log_days : 0
}

module "cluster" {
  source = "./modules/cluster"

  name               = var.name
  kubernetes_version = var.kubernetes_version
  subnet_ids         = values(module.network.private_subnet_ids)
  api_cidrs          = var.api_cidrs
  admin_arns         = length(var.admin_arns) > 0 ? var.admin_arns : [data.aws_iam_session_context.current.issuer_arn]
  partition          = data.aws_partition.current.partition
  log_days           = var.log_days
  kms_deletion_days  = local.kms_deletion_days
  system_nodes       = var.system_nodes
  addon_versions     = var.addon_versions
  tags               = local.tags

  # Nodes fetch images by the NAT gateway and the endpoints: these come first, and go last.
  depends_on = [module.network]
}

module "karpenter_interruptions" {
  source = "./modules/interruptions"

  name = "${var.name}-karpenter"
}

module "karpenter" {
  source = "./modules/karpenter"

  name             = module.cluster.name
  cluster_arn      = module.cluster.arn
  oidc             = module.cluster.oidc
  service_account  = var.karpenter_service_account
  queue_arn        = module.karpenter_interruptions.queue_arn
  create_spot_role = var.create_spot_role
}

# A queue of the monitor's own: a message that one reader took is not there for the other.
module "interruptions" {
  source = "./modules/interruptions"
  count  = var.direct_ec2 ? 1 : 0

  name = "${var.name}-interruptions"
}

# Mocks of a provider know no ephemeral resources: hence a second one, for these alone.
module "secrets" {
  source = "./modules/secrets"

  name              = var.name
  password_version  = var.password_version
  recovery_days     = var.throw_away ? 0 : 7
  kms_deletion_days = local.kms_deletion_days
  users             = local.users

  providers = {
    aws           = aws
    aws.passwords = aws.passwords
  }
}

module "kafka" {
  source = "./modules/kafka"
  count  = var.kafka == "msk" ? 1 : 0

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = values(module.network.data_subnet_ids)
  client_security_group_id = module.cluster.security_group_id
  kafka_version            = var.msk.version
  instance_type            = var.msk.instance_type
  disk_gib                 = var.msk.disk_gib
  partitions               = var.msk.partitions
  secret_arns              = [module.secrets.arns["kafka"], module.secrets.arns["kafka-pods"]]
  log_days                 = var.log_days
  kms_deletion_days        = local.kms_deletion_days
}

module "database" {
  source = "./modules/database"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = values(module.network.data_subnet_ids)
  client_security_group_id = module.cluster.security_group_id
  engine_version           = var.database.engine_version
  instance_class           = var.database.instance_class
  disk_gib                 = var.database.disk_gib
  max_disk_gib             = var.database.max_disk_gib
  multi_az                 = var.database.multi_az
  backup_days              = var.database.backup_days
  protected                = !var.throw_away
  log_days                 = var.log_days
  kms_deletion_days        = local.kms_deletion_days
}

module "objects" {
  source = "./modules/objects"

  bucket        = local.bucket
  force_destroy = var.throw_away
  deleted_days  = var.deleted_days
  log_days      = var.log_days
  access_log    = var.access_log
}

module "images" {
  source = "./modules/images"

  name         = var.name
  repositories = var.image_repositories
  force_delete = var.throw_away
}

module "identity" {
  source = "./modules/identity"

  name                    = var.name
  oidc                    = module.cluster.oidc
  namespaces              = var.namespaces
  bucket_arn              = module.objects.arn
  interruption_queue_arns = module.interruptions[*].queue_arn
  direct_ec2              = var.direct_ec2

  external_secrets_account = var.external_secrets_account
  secrets                  = { arns = values(module.secrets.arns), key_arn = module.secrets.key_arn }
}

module "console" {
  source = "./modules/console"
  count  = var.domain == null ? 0 : 1

  name                   = var.name
  vpc_id                 = module.network.vpc_id
  subnet_ids             = values(module.network.public_subnet_ids)
  domain                 = var.domain
  zone_id                = var.zone_id
  allowed_cidrs          = var.console_cidrs
  node_security_group_id = module.cluster.security_group_id
  node_autoscaling_group = module.cluster.node_autoscaling_group
  node_port              = var.gateway_node_port
  protected              = !var.throw_away
}

module "costs" {
  source = "./modules/costs"

  name          = var.name
  activate_tags = var.activate_cost_tags
  tag_keys      = setunion(keys(local.tags), var.direct_ec2 ? ["sskai:tenant", "sskai:job-id"] : [])
  monthly_usd   = var.budget.monthly_usd
  emails        = var.budget.emails
}
