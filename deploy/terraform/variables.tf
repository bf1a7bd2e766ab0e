variable "name" {
  description = "Name of the installation and of the cluster, and prefix of every other name. One per account and region."
  type        = string
  default     = "sskai"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 small letters, digits and hyphens, beginning with a letter."
  }
}

variable "region" {
  description = "The AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: as AWS writes it, for example eu-west-1."
  }
}

variable "tags" {
  description = "Further tags of everything."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(key, "aws:") && !startswith(key, "sskai:")])
    error_message = "tags: keys that begin with aws: or sskai: are not yours to give."
  }
}

variable "throw_away" {
  description = "For trials: terraform destroy deletes the database, the bucket and its objects, the images and the secrets at once, without a last snapshot."
  type        = bool
  default     = false
}

variable "log_days" {
  description = "Days for which logs of the network, the control plane, Kafka, PostgreSQL and jobs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days: CloudWatch knows 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 and 731."
  }
}

# The network.

variable "vpc_cidr" {
  description = "Addresses of the VPC. Pods have addresses of it too."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 20, false)
    error_message = "vpc_cidr: a network of /16 to /20, for example 10.42.0.0/16."
  }
}

variable "zones" {
  description = "Three availability zones; empty: the region's first three."
  type        = list(string)
  default     = []

  validation {
    condition     = contains([0, 3], length(distinct(var.zones))) && length(var.zones) == length(distinct(var.zones))
    error_message = "zones: name three different ones, or none."
  }
}

variable "nat_per_zone" {
  description = "One NAT gateway per zone: a zone that fails takes no other one's way out. False: one for all, a third of the price."
  type        = bool
  default     = true
}

variable "interface_endpoints" {
  description = "AWS services that are reached inside the VPC, each for about 22 USD a month in three zones. S3 always is, for nothing; what is missing here goes by NAT."
  type        = set(string)
  default     = ["ec2", "ecr.api", "ecr.dkr", "logs", "sqs", "ssm", "sts"]

  validation {
    condition     = !contains(var.interface_endpoints, "s3")
    error_message = "interface_endpoints: S3 has its own endpoint already."
  }
}

variable "flow_logs" {
  description = "Log connections that a security group or network ACL rejected."
  type        = bool
  default     = true
}

# The cluster.

variable "kubernetes_version" {
  description = "Kubernetes' minor version; SSKAI needs 1.31 or newer."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version)) && try(tonumber(split(".", var.kubernetes_version)[1]) >= 31, false)
    error_message = "kubernetes_version: 1.31 or newer, without a patch."
  }
}

variable "api_cidrs" {
  description = "Networks that reach Kubernetes' API over the internet, to run kubectl and Helm from. Empty: the API answers inside the VPC only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.api_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "api_cidrs: networks of /8 or smaller; the API is not for the whole internet."
  }
}

variable "admin_arns" {
  description = "IAM roles and users who administer the cluster. Empty: whoever runs terraform apply; name them if that is not always the same."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.admin_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "admin_arns: ARNs of IAM roles or users."
  }
}

variable "system_nodes" {
  description = "The on-demand nodes on which SSKAI's services and Karpenter run; jobs get nodes of their own."
  type = object({
    instance_types = list(string)
    architecture   = optional(string, "x86_64")
    count          = optional(number, 3)
    disk_gib       = optional(number, 80)
  })
  default = { instance_types = ["m7i.xlarge"] }

  validation {
    condition     = contains(["x86_64", "arm64"], var.system_nodes.architecture)
    error_message = "system_nodes.architecture: x86_64 or arm64."
  }

  validation {
    condition     = var.system_nodes.count >= 2 && length(var.system_nodes.instance_types) > 0
    error_message = "system_nodes: at least two nodes, for Karpenter runs twice, and at least one type."
  }
}

variable "addon_versions" {
  description = "Versions of the EKS add-ons vpc-cni, kube-proxy, coredns and aws-ebs-csi-driver; one that is missing gets EKS's default."
  type        = map(string)
  default     = {}
}

variable "namespaces" {
  description = "Namespaces of SSKAI's services and of the pods that they start."
  type        = object({ services = string, pods = string })
  default     = { services = "sskai", pods = "sskai-jobs" }
}

variable "karpenter_service_account" {
  description = "Karpenter's service account, NAMESPACE:NAME."
  type        = string
  default     = "kube-system:karpenter"

  validation {
    condition     = can(regex("^[a-z0-9-]+:[a-z0-9-]+$", var.karpenter_service_account))
    error_message = "karpenter_service_account: NAMESPACE:NAME."
  }
}

variable "external_secrets_account" {
  description = "Service account of the External Secrets Operator, NAMESPACE:NAME."
  type        = string
  default     = "external-secrets:external-secrets"

  validation {
    condition     = can(regex("^[a-z0-9-]+:[a-z0-9-]+$", var.external_secrets_account))
    error_message = "external_secrets_account: NAMESPACE:NAME."
  }
}

variable "create_spot_role" {
  description = "Create the account's service-linked role for spot machines: once per account, if nobody ever started one."
  type        = bool
  default     = false
}

# Kafka, PostgreSQL, objects.

variable "kafka" {
  description = "Where events go: `msk`, a cluster of AWS's own, or `strimzi`, one that you run inside the cluster."
  type        = string
  default     = "msk"

  validation {
    condition     = contains(["msk", "strimzi"], var.kafka)
    error_message = "kafka: msk or strimzi."
  }
}

variable "msk" {
  description = "The MSK cluster; a broker in each zone."
  type = object({
    version       = optional(string, "3.9.x.kraft")
    instance_type = optional(string, "kafka.m7g.large")
    disk_gib      = optional(number, 200)
    partitions    = optional(number, 12)
  })
  default = {}

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.(x|[0-9]+)(\\.kraft)?$", var.msk.version))
    error_message = "msk.version: as `aws kafka list-kafka-versions` writes it, for example 3.9.x.kraft."
  }

  validation {
    condition     = startswith(var.msk.instance_type, "kafka.") && var.msk.disk_gib >= 10 && var.msk.partitions >= 1
    error_message = "msk: a type such as kafka.m7g.large, 10 GiB of disk and one partition at least."
  }
}

variable "database" {
  description = "The PostgreSQL instance."
  type = object({
    engine_version = optional(string, "17")
    instance_class = optional(string, "db.m7g.large")
    disk_gib       = optional(number, 100)
    max_disk_gib   = optional(number, 1000)
    multi_az       = optional(bool, true)
    backup_days    = optional(number, 14)
  })
  default = {}

  validation {
    condition     = startswith(var.database.instance_class, "db.") && var.database.disk_gib >= 20 && var.database.max_disk_gib > var.database.disk_gib
    error_message = "database: a class such as db.m7g.large, 20 GiB of disk at least, and more to grow to."
  }

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35
    error_message = "database.backup_days: 1 to 35."
  }
}

variable "password_version" {
  description = "A higher number gives Kafka's and PostgreSQL's users new passwords, which then have to be told to the services (docs/guides/aws.md). 0: none are made; write the secrets' values yourself."
  type        = number
  default     = 1

  validation {
    condition     = var.password_version >= 0 && floor(var.password_version) == var.password_version
    error_message = "password_version: a whole number."
  }
}

variable "bucket" {
  description = "Name of the bucket; empty: NAME-ACCOUNT-REGION."
  type        = string
  default     = ""
}

variable "deleted_days" {
  description = "Days for which deleted and overwritten objects can be had back, and cost. Checkpoints are overwritten all the time."
  type        = number
  default     = 3

  validation {
    condition     = var.deleted_days >= 1
    error_message = "deleted_days: 1 or more."
  }
}

variable "access_log" {
  description = "Keep a log of every request to the bucket in a second one."
  type        = bool
  default     = true
}

variable "image_repositories" {
  description = "Image repositories to create in ECR, one for each stage of deploy/Dockerfile; empty: images come from elsewhere."
  type        = set(string)
  default     = ["gateway", "optimizer", "scheduler", "trainer", "inference", "monitor", "cloud", "cloud-gpu"]
}

# The console.

variable "domain" {
  description = "The console's host name, with a load balancer and a certificate for it. Null: neither; reach the console by kubectl port-forward."
  type        = string
  default     = null
}

variable "zone_id" {
  description = "The Route 53 zone of that name."
  type        = string
  default     = null

  validation {
    condition     = (var.domain == null) == (var.zone_id == null)
    error_message = "zone_id: set together with domain."
  }
}

variable "console_cidrs" {
  description = "Networks that reach the console and the API by that name; [\"0.0.0.0/0\"] is the whole internet, behind SSKAI's own sign-in."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.console_cidrs : can(cidrhost(cidr, 0))])
    error_message = "console_cidrs: networks such as 203.0.113.0/24."
  }

  validation {
    condition     = var.domain == null || length(var.console_cidrs) > 0
    error_message = "console_cidrs: say who may reach the console."
  }
}

variable "gateway_node_port" {
  description = "The gateway's port on every node, to which the load balancer sends."
  type        = number
  default     = 30080

  validation {
    condition     = var.gateway_node_port >= 30000 && var.gateway_node_port <= 32767
    error_message = "gateway_node_port: 30000 to 32767."
  }
}

# Machines without a cluster, and money.

variable "direct_ec2" {
  description = "Also what SSKAI_CLUSTER=ec2 needs: roles, an instance profile, and a queue of interruptions for the monitor."
  type        = bool
  default     = false
}

variable "activate_cost_tags" {
  description = "Make AWS's bills tell the tags apart. Only a day after the first apply, when AWS knows them, and in the account that pays."
  type        = bool
  default     = false
}

variable "budget" {
  description = "Who is told when a month becomes expensive. Without emails there is no budget; without activate_cost_tags it counts the whole account."
  type        = object({ monthly_usd = number, emails = list(string) })
  default     = { monthly_usd = 1000, emails = [] }

  validation {
    condition     = var.budget.monthly_usd > 0 && length(var.budget.emails) <= 10
    error_message = "budget: more than nothing, and at most ten addresses."
  }
}
