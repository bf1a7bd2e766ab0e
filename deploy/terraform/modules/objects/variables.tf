variable "bucket" {
  description = "Name of the bucket; names are shared by all of AWS."
  type        = string
}

variable "force_destroy" {
  description = "Delete the buckets with everything in them."
  type        = bool
}

variable "deleted_days" {
  description = "Days for which deleted and overwritten objects can be had back."
  type        = number
}

variable "log_days" {
  description = "Days for which jobs' logs and the bucket's access log are kept."
  type        = number
}

variable "access_log" {
  description = "Keep a log of every request in a second bucket."
  type        = bool
}
