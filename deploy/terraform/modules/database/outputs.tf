output "host" {
  description = "The database's host."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "The database's port."
  value       = aws_db_instance.this.port
}

output "database" {
  description = "The database's name."
  value       = aws_db_instance.this.db_name
}

output "master_secret_arn" {
  description = "RDS's own secret of the user `postgres`."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
