output "address" {
  description = "Where the console and the API answer."
  value       = "https://${var.domain}"
}
