output "queue_name" {
  description = "The queue's name."
  value       = aws_sqs_queue.this.name
}

output "queue_url" {
  description = "The queue's address."
  value       = aws_sqs_queue.this.url
}

output "queue_arn" {
  description = "The queue's ARN."
  value       = local.arn
}
