variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Data subnets; a broker in each."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "The group of the cluster's nodes, the only ones who may connect."
  type        = string
}

variable "kafka_version" {
  description = "MSK's name of a Kafka version."
  type        = string
}

variable "instance_type" {
  description = "Type of the brokers."
  type        = string
}

variable "disk_gib" {
  description = "Disk of each broker."
  type        = number
}

variable "partitions" {
  description = "Partitions of a topic that names no number."
  type        = number
}

variable "log_days" {
  description = "Days for which the brokers' logs are kept."
  type        = number
}

variable "kms_deletion_days" {
  description = "Days until a deleted key is gone."
  type        = number
}

variable "secret_arns" {
  description = "The secrets with the users' `username` and `password`."
  type        = list(string)
}
