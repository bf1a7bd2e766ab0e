output "urls" {
  description = "Where images are pushed to and pulled from, by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}
