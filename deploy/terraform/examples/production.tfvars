# A zone may fail and SSKAI goes on: everything in three zones, data with a standby and backups, deletion refused.
name   = "sskai"
region = "us-east-1"
tags   = { team = "ml-platform" }

# Name who administers; the API answers inside the VPC and to the office.
admin_arns = ["arn:aws:iam::123456789012:role/platform-admin"]
api_cidrs  = ["203.0.113.0/24"]

system_nodes = { instance_types = ["m7i.xlarge", "m6i.xlarge"], count = 3 }

msk      = { instance_type = "kafka.m7g.large", disk_gib = 500 }
database = { instance_class = "db.m7g.xlarge", disk_gib = 200, backup_days = 30 }

domain        = "sskai.example.com"
zone_id       = "Z0123456789EXAMPLE"
console_cidrs = ["203.0.113.0/24"]

log_days = 90
budget   = { monthly_usd = 5000, emails = ["ml-platform@example.com"] }
