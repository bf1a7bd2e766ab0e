variable "name" {
  description = "Name of the queue, and prefix of the rules' names."
  type        = string
}
