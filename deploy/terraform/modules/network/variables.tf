variable "name" {
  description = "Name of the installation; prefix of every name here."
  type        = string
}

variable "region" {
  description = "Region, for the names of endpoints."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16 to /20."
  type        = string
}

variable "zones" {
  description = "Availability zones, three of them."
  type        = list(string)
}

variable "nat_per_zone" {
  description = "One NAT gateway per zone instead of one for all."
  type        = bool
}

variable "interface_endpoints" {
  description = "AWS services that are reached inside the VPC, beside S3."
  type        = set(string)
}

variable "log_days" {
  description = "Days for which rejected connections are logged; 0: not at all."
  type        = number
}
