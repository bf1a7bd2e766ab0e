variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "oidc" {
  description = "Who vouches for service accounts."
  type        = object({ arn = string, issuer = string })
}

variable "namespaces" {
  description = "Namespaces of the services and of the pods that they start."
  type        = object({ services = string, pods = string })
}

variable "bucket_arn" {
  description = "The bucket of datasets, models, checkpoints and logs."
  type        = string
}

variable "interruption_queue_arns" {
  description = "Queues that the monitor reads."
  type        = list(string)
}

variable "direct_ec2" {
  description = "Also roles for machines without a cluster (SSKAI_CLUSTER=ec2)."
  type        = bool
}

variable "external_secrets_account" {
  description = "Service account of the External Secrets Operator, NAMESPACE:NAME."
  type        = string
}

variable "secrets" {
  description = "The secrets that it reads, and the key that they lie under."
  type        = object({ arns = list(string), key_arn = string })
}
