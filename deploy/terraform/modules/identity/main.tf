# A role for each service account, and what it may do. Names of actions are written out; where a resource is `*`, AWS
# takes none (tests/deploy/test_terraform_policy.py has the list).
data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
  account   = data.aws_caller_identity.current.account_id

  # The trainer is twice here: the service, and the pods of jobs.
  accounts = {
    gateway      = "${var.namespaces.services}:sskai-gateway"
    optimizer    = "${var.namespaces.services}:sskai-optimizer"
    scheduler    = "${var.namespaces.services}:sskai-scheduler"
    trainer      = "${var.namespaces.services}:sskai-trainer"
    inference    = "${var.namespaces.services}:sskai-inference"
    monitor      = "${var.namespaces.services}:sskai-monitor"
    trainer-pods = "${var.namespaces.pods}:sskai-trainer"
    replica-pods = "${var.namespaces.pods}:sskai-replica"

    external-secrets = var.external_secrets_account
  }

  statements = {
    for account in keys(local.accounts) : account => concat(
      lookup(local.objects, account, []),
      lookup(local.cloud, account, []),
    )
  }
}

resource "aws_iam_role" "this" {
  for_each = local.accounts

  name = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.oidc.arn }
      Condition = {
        StringEquals = {
          "${var.oidc.issuer}:aud" = "sts.amazonaws.com"
          "${var.oidc.issuer}:sub" = "system:serviceaccount:${each.value}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.accounts

  name   = "sskai"
  role   = aws_iam_role.this[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.key] })
}
