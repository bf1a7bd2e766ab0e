output "controller_role_arn" {
  description = "Role of Karpenter's service account."
  value       = aws_iam_role.controller.arn
}

output "node_role_name" {
  description = "Role of the nodes that Karpenter starts."
  value       = aws_iam_role.node.name
}

output "instance_profile_name" {
  description = "The same as an instance profile: `spec.instanceProfile` of an EC2NodeClass."
  value       = aws_iam_instance_profile.node.name
}
