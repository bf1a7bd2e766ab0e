# What is refused before anything is asked of AWS: terraform test -filter=tests/refusals.tftest.hcl
mock_provider "aws" {
  source = "./tests/mocks"
}

# Mocks know no ephemeral resources; without a password version this one is asked for none.
provider "aws" {
  alias      = "passwords"
  region     = "us-east-1"
  access_key = "none"
  secret_key = "none"

  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

variables {
  region           = "us-east-1"
  password_version = 0
}

run "one_wrong_value_each" {
  command = plan

  variables {
    api_cidrs          = ["0.0.0.0/0"]
    vpc_cidr           = "10.0.0.0/24"
    zones              = ["us-east-1a", "us-east-1b"]
    kubernetes_version = "1.30"
    system_nodes       = { instance_types = ["m7i.large"], count = 1 }
    kafka              = "redpanda"
    name               = "a-name-that-is-too-long-for-a-load-balancer"
    tags               = { "sskai:tenant" = "x" }
    log_days           = 31
    database           = { backup_days = 0 }
    domain             = "sskai.example.com"
  }

  expect_failures = [
    var.api_cidrs,
    var.vpc_cidr,
    var.zones,
    var.kubernetes_version,
    var.system_nodes,
    var.kafka,
    var.name,
    var.tags,
    var.log_days,
    var.database,
    var.zone_id,
    var.console_cidrs,
  ]
}
