output "console_address" {
  description = "Where the console and the API answer once Helm has run."
  value       = one(module.console[*].address) != null ? module.console[0].address : "http://127.0.0.1:8000"
}

output "kubeconfig_command" {
  description = "What tells kubectl and Helm of the cluster."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${module.cluster.name}"
}

output "database_master_secret_arn" {
  description = "RDS's own secret of the user postgres, to make the services' user with."
  value       = module.database.master_secret_arn
}

output "image_repositories" {
  description = "Where SSKAI's images are pushed to, by name."
  value       = module.images.urls
}

output "machine_profile" {
  description = "SSKAI_EC2_INSTANCE_PROFILE of machines without a cluster; null: there are none."
  value       = module.identity.machine_profile
}

output "interruption_queue_url" {
  description = "SSKAI_INTERRUPTION_QUEUE_URL of the monitor, where machines run without a cluster; null: there is none."
  value       = one(module.interruptions[*].queue_url)
}

output "database" {
  description = "Where PostgreSQL answers, and the secret of the services' user."
  value = {
    host       = module.database.host
    port       = module.database.port
    name       = module.database.database
    secret_arn = module.secrets.arns["database"]
  }
}
