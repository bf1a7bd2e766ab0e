output "name" {
  description = "The cluster's name."
  value       = aws_eks_cluster.this.name
}

output "arn" {
  description = "The cluster's ARN."
  value       = aws_eks_cluster.this.arn
}

output "endpoint" {
  description = "Address of Kubernetes' API."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "The group of all nodes, those of Karpenter included."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "oidc" {
  description = "Who vouches for service accounts: the provider's ARN, and its address without https."
  value       = { arn = aws_iam_openid_connect_provider.this.arn, issuer = local.issuer }
}

output "node_autoscaling_group" {
  description = "The autoscaling group of the system nodes."
  value       = aws_eks_node_group.system.resources[0].autoscaling_groups[0].name
}
