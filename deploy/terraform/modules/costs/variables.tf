variable "name" {
  description = "Name of the installation, the value of its tag."
  type        = string
}

variable "activate_tags" {
  description = "Make AWS's bills tell these tags apart, and count in the budget only what carries ours."
  type        = bool
}

variable "tag_keys" {
  description = "Keys of the tags that bills tell apart."
  type        = set(string)
}

variable "monthly_usd" {
  description = "The budget of a month."
  type        = number
}

variable "emails" {
  description = "Who is told; empty: there is no budget."
  type        = list(string)
}
