# terraform test -var-file=examples/production.tfvars -filter=tests/production.tftest.hcl
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
    condition     = output.console_address == "https://sskai.example.com"
    error_message = "The console answers by the domain."
  }

  assert {
    condition     = module.costs.budget == "sskai-monthly"
    error_message = "Somebody is told when a month becomes expensive."
  }

  assert {
    condition     = output.helm_values.services.gateway.settings.SSKAI_PUBLIC_URL == output.console_address
    error_message = "The gateway knows its own address."
  }

  assert {
    condition     = output.karpenter_values.settings.interruptionQueue == "sskai-karpenter"
    error_message = "Karpenter reads its queue."
  }

  assert {
    condition     = jsonencode(local.tags) == jsonencode({ team = "ml-platform", "sskai:installation" = "sskai" })
    error_message = "Everything carries the installation's name and the given tags."
  }
}

run "cost_tags" {
  command = plan

  variables {
    activate_cost_tags = true
  }

  assert {
    condition     = module.costs.budget == "sskai-monthly"
    error_message = "The budget stays."
  }
}
