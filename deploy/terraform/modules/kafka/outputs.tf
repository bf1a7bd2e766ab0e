output "cluster_arn" {
  description = "The cluster's ARN."
  value       = aws_msk_cluster.this.arn
}

output "bootstrap" {
  description = "Addresses of the brokers, for SASL/SCRAM over TLS."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}
