# terraform test -var-file=examples/minimal.tfvars -filter=tests/minimal.tftest.hcl
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
  password_version = 0
}

run "apply" {
  command = apply

  assert {
    condition     = length(module.network.private_subnet_ids) == 3 && length(module.network.data_subnet_ids) == 3
    error_message = "Subnets lie in three zones."
  }

  assert {
    condition     = local.zones == tolist(["us-east-1a", "us-east-1b", "us-east-1c"])
    error_message = "The region's first three zones are taken."
  }

  assert {
    condition     = output.console_address == "http://127.0.0.1:8000"
    error_message = "Without a domain the console is reached by a port-forward."
  }

  assert {
    condition     = length(module.console) == 0 && length(module.interruptions) == 0 && module.costs.budget == null
    error_message = "A trial has no load balancer, no queue of the monitor's, and without emails no budget."
  }

  assert {
    condition     = output.helm_values.kafka.securityProtocol == "SASL_SSL" && endswith(output.helm_values.kafka.bootstrap, ":9096")
    error_message = "Services sign in to Kafka over TLS."
  }

  assert {
    condition = alltrue([
      for service in ["gateway", "optimizer", "scheduler", "trainer", "inference", "monitor"] :
      startswith(output.helm_values.services[service].serviceAccount.annotations["eks.amazonaws.com/role-arn"], "arn:aws:iam::")
    ])
    error_message = "Every service has a role."
  }

  assert {
    condition     = output.helm_values.objects.bucket == "sskai-trial-123456789012-us-east-1"
    error_message = "The bucket's name names the account and the region."
  }
}

run "strimzi" {
  command = plan

  variables {
    kafka = "strimzi"
  }

  assert {
    condition     = length(module.kafka) == 0 && !contains(keys(output.helm_values), "kafka")
    error_message = "Who runs Kafka in the cluster gets no MSK, and says its address."
  }

  assert {
    condition     = [for secret in output.helm_values.externalSecrets.secrets : secret.name] == ["sskai-database"]
    error_message = "And no passwords for it."
  }
}

run "direct_ec2" {
  command = apply

  variables {
    direct_ec2 = true
  }

  assert {
    condition     = output.machine_profile == "sskai-trial-pod" && output.interruption_queue_url != null
    error_message = "Machines without a cluster need a profile, and the monitor a queue."
  }
}
