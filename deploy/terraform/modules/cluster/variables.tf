variable "name" {
  description = "Name of the installation and of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Kubernetes' minor version."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, of nodes and the control plane's interfaces."
  type        = list(string)
}

variable "api_cidrs" {
  description = "Networks that reach Kubernetes' API over the internet; empty: it answers inside the VPC only."
  type        = list(string)
}

variable "admin_arns" {
  description = "IAM roles and users who administer the cluster."
  type        = set(string)
}

# Not looked up here: a module that waits for another reads its data only while it is applied.
variable "partition" {
  description = "AWS's partition."
  type        = string
}

variable "log_days" {
  description = "Days for which the control plane's logs are kept."
  type        = number
}

variable "kms_deletion_days" {
  description = "Days until a deleted key is gone."
  type        = number
}

variable "system_nodes" {
  description = "The on-demand nodes of SSKAI's services and Karpenter."
  type = object({
    instance_types = list(string)
    architecture   = string
    count          = number
    disk_gib       = number
  })
}

variable "addon_versions" {
  description = "Versions of EKS add-ons by name; one that is missing gets EKS's default."
  type        = map(string)
}

variable "tags" {
  description = "Tags of what nodes are made of; the provider's own do not reach there."
  type        = map(string)
}
