output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Subnets of nodes and pods, by zone."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
}

output "public_subnet_ids" {
  description = "Subnets of the load balancer, by zone."
  value       = { for zone, subnet in aws_subnet.public : zone => subnet.id }
}

output "data_subnet_ids" {
  description = "Subnets of Kafka and PostgreSQL, by zone."
  value       = { for zone, subnet in aws_subnet.data : zone => subnet.id }
}
