# The smallest SSKAI on AWS, for trials: one NAT gateway, no endpoints but S3's, small Kafka and PostgreSQL, no load
# balancer. terraform destroy deletes everything in it.
name       = "sskai-trial"
region     = "us-east-1"
throw_away = true
log_days   = 7

nat_per_zone        = false
interface_endpoints = []
flow_logs           = false
access_log          = false

# Your own address, or nothing reaches Kubernetes' API: curl https://checkip.amazonaws.com
api_cidrs = ["203.0.113.7/32"]

system_nodes = { instance_types = ["m7i.large"], count = 2, disk_gib = 40 }

# ZooKeeper's mode: the small type is not offered for KRaft everywhere.
msk      = { version = "3.9.x", instance_type = "kafka.t3.small", disk_gib = 20, partitions = 6 }
database = { instance_class = "db.t4g.medium", disk_gib = 20, max_disk_gib = 100, multi_az = false, backup_days = 1 }

budget = { monthly_usd = 500, emails = [] }
