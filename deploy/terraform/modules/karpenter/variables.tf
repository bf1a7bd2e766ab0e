variable "name" {
  description = "Name of the installation and of the cluster."
  type        = string
}

variable "cluster_arn" {
  description = "The cluster's ARN."
  type        = string
}

variable "oidc" {
  description = "Who vouches for service accounts."
  type        = object({ arn = string, issuer = string })
}

variable "service_account" {
  description = "Karpenter's service account, NAMESPACE:NAME."
  type        = string
}

variable "queue_arn" {
  description = "The queue of interruptions that Karpenter reads."
  type        = string
}

variable "create_spot_role" {
  description = "Create the account's service-linked role for spot machines."
  type        = bool
}
