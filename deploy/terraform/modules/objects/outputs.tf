output "bucket" {
  description = "The bucket of datasets, models, checkpoints and logs."
  value       = aws_s3_bucket.this["objects"].bucket
}

output "arn" {
  description = "Its ARN."
  value       = local.arns.objects
}
