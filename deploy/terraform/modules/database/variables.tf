variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Data subnets."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "The group of the cluster's nodes, the only ones who may connect."
  type        = string
}

variable "engine_version" {
  description = "PostgreSQL's major version, or major.minor."
  type        = string
}

variable "instance_class" {
  description = "Class of the instance."
  type        = string
}

variable "disk_gib" {
  description = "First size of the disk."
  type        = number
}

variable "max_disk_gib" {
  description = "Size up to which the disk grows by itself."
  type        = number
}

variable "multi_az" {
  description = "A standby in a second zone."
  type        = bool
}

variable "backup_days" {
  description = "Days for which backups are kept; a point in time can be restored within them."
  type        = number
}

variable "protected" {
  description = "Refuse to delete the database, and take a last snapshot when it is."
  type        = bool
}

variable "log_days" {
  description = "Days for which PostgreSQL's log is kept."
  type        = number
}

variable "kms_deletion_days" {
  description = "Days until a deleted key is gone."
  type        = number
}
