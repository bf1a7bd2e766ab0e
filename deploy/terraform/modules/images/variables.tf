variable "name" {
  description = "Name of the installation, the first part of every repository's name."
  type        = string
}

variable "repositories" {
  description = "Images that are pushed here."
  type        = set(string)
}

variable "force_delete" {
  description = "Delete the repositories with their images."
  type        = bool
}
