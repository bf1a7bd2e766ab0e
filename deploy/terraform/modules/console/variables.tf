variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Public subnets."
  type        = list(string)
}

variable "domain" {
  description = "The console's host name."
  type        = string
}

variable "zone_id" {
  description = "The Route 53 zone in which that name lies."
  type        = string
}

variable "allowed_cidrs" {
  description = "Networks that reach the console and the API."
  type        = set(string)
}

variable "node_security_group_id" {
  description = "The group of the cluster's nodes."
  type        = string
}

variable "node_autoscaling_group" {
  description = "The autoscaling group whose nodes take requests."
  type        = string
}

variable "node_port" {
  description = "The gateway's port on every node."
  type        = number
}

variable "protected" {
  description = "Refuse to delete the load balancer."
  type        = bool
}
