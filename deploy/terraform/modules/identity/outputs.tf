output "role_arns" {
  description = "Roles by service account: `eks.amazonaws.com/role-arn` of each."
  value       = { for service, role in aws_iam_role.this : service => role.arn }
}

output "machine_profile" {
  description = "Instance profile of machines without a cluster; null: there are none."
  value       = one(aws_iam_instance_profile.machine[*].name)
}
