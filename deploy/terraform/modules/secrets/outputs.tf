output "arns" {
  description = "The secrets' ARNs by user, once each has a value."
  value       = { for key, secret in aws_secretsmanager_secret.this : key => secret.arn }

  depends_on = [aws_secretsmanager_secret_version.this, aws_secretsmanager_secret_policy.kafka]
}

output "key_arn" {
  description = "The key that they lie under."
  value       = aws_kms_key.this.arn
}
