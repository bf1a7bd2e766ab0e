variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "users" {
  description = "Users by a name of ours: the user's name, and its secret's. Secrets that begin with AmazonMSK_ are read by MSK."
  type        = map(object({ username = string, secret = string }))
}

variable "password_version" {
  description = "A higher number makes new passwords; 0: none are made."
  type        = number
}

variable "recovery_days" {
  description = "Days for which a deleted secret can be had back; 0: it is gone at once."
  type        = number
}

variable "kms_deletion_days" {
  description = "Days until a deleted key is gone."
  type        = number
}
