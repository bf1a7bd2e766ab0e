# A values file for the chart in deploy/helm/sskai, over its values-aws.yaml: docs/guides/aws.md.
locals {
  role = {
    for account, arn in module.identity.role_arns : account => { annotations = { "eks.amazonaws.com/role-arn" = arn } }
  }

  # The Secret that the chart asks for, and what it holds: words in braces are fields of the entry in Secrets Manager.
  database_url = "postgresql+psycopg://{{ .username }}:{{ .password }}@${module.database.host}:${module.database.port}/${module.database.database}?sslmode=verify-full&sslrootcert=/etc/sskai/database/ca.pem"
  kafka_login  = { SSKAI_KAFKA_USERNAME = "{{ .username }}", SSKAI_KAFKA_PASSWORD = "{{ .password }}" }
  kubernetes_secrets = {
    database   = { name = "sskai-database", template = { SSKAI_DATABASE_URL = local.database_url } }
    kafka      = { name = "sskai-kafka", template = local.kafka_login }
    kafka-pods = { name = "sskai-kafka-pods", template = local.kafka_login, namespace = var.namespaces.pods }
  }

  helm_values = {
    settings = {
      SSKAI_AWS_REGIONS     = var.region
      SSKAI_OFFERED_REGIONS = var.region
    }

    # The chart's own default where no repository is made here.
    image = { repository = try(dirname(values(module.images.urls)[0]), "sskai") }

    kafka = {
      bootstrap        = one(module.kafka[*].bootstrap)
      securityProtocol = "SASL_SSL"
      saslMechanism    = "SCRAM-SHA-512"
      existingSecret   = "sskai-kafka"
    }

    database = { existingSecret = "sskai-database", caConfigMap = "sskai-database-ca" }
    objects  = { url = "", bucket = module.objects.bucket, region = var.region, existingSecret = "" }

    externalSecrets = {
      enabled = true
      secrets = [for user, about in local.users : merge(local.kubernetes_secrets[user], { remote = about.secret })]
    }

    services = {
      gateway   = { serviceAccount = local.role["gateway"], settings = var.domain == null ? {} : { SSKAI_PUBLIC_URL = "https://${var.domain}" } }
      optimizer = { serviceAccount = local.role["optimizer"] }
      scheduler = { serviceAccount = local.role["scheduler"] }
      trainer   = { serviceAccount = local.role["trainer"] }
      inference = { serviceAccount = local.role["inference"] }
      monitor   = { serviceAccount = local.role["monitor"] }
    }

    jobs = {
      namespace      = var.namespaces.pods
      trainerAccount = merge({ name = "sskai-trainer" }, local.role["trainer-pods"])
      objectsSecret  = ""
    }
    replicas = { account = merge({ name = "sskai-replica" }, local.role["replica-pods"]) }

    networkPolicy = {
      kafka         = { to = local.vpc, ports = [9096] }
      database      = { to = local.vpc, ports = [5432] }
      kubernetesApi = { to = local.vpc, ports = [443] }
    }

    karpenter = {
      enabled = true
      nodeClass = {
        role      = module.karpenter.node_role_name
        discovery = var.name
        tags      = local.tags
      }
    }
  }

  vpc = [{ ipBlock = { cidr = var.vpc_cidr } }]
}

output "helm_values" {
  description = "What the Helm chart must know of all this."
  # Strimzi's address, and who may reach it, are for whoever runs it to say.
  value = merge(
    { for key, value in local.helm_values : key => value if key != "networkPolicy" && (key != "kafka" || var.kafka == "msk") },
    { networkPolicy = { for key, value in local.helm_values.networkPolicy : key => value if key != "kafka" || var.kafka == "msk" } },
  )
}

output "karpenter_values" {
  description = "What Karpenter's own chart must know."
  value = {
    settings       = { clusterName = module.cluster.name, interruptionQueue = module.karpenter_interruptions.queue_name }
    serviceAccount = { annotations = { "eks.amazonaws.com/role-arn" = module.karpenter.controller_role_arn } }
    nodeSelector   = { "sskai.io/pool" = "system" }
  }
}

output "external_secrets_values" {
  description = "What the chart of the External Secrets Operator must know."
  value       = { serviceAccount = { annotations = local.role["external-secrets"].annotations } }
}
