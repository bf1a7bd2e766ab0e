# The policies of docs/operations.md: "Live prices", "EC2, without a cluster", "Interruptions from AWS".
locals {
  pod_role = "${var.name}-pod"
  ec2      = "arn:${local.partition}:ec2:*:${local.account}"

  # What an installation without a cluster starts carries the name of the service that started it, and it ends no other.
  launching = {
    for service in ["scheduler", "inference"] : service => [
      {
        Sid      = "LookAndStart"
        Effect   = "Allow"
        Action   = ["ec2:DescribeInstances", "ec2:DescribeAvailabilityZones", "ec2:CreateLaunchTemplate", "ec2:RunInstances"]
        Resource = "*"
      },
      {
        Sid       = "TagWhatIsStarted"
        Effect    = "Allow"
        Action    = ["ec2:CreateTags"]
        Resource  = ["${local.ec2}:instance/*", "${local.ec2}:volume/*"]
        Condition = { StringEquals = { "ec2:CreateAction" = "RunInstances" } }
      },
      {
        Sid       = "OursAlone"
        Effect    = "Allow"
        Action    = ["ec2:CreateTags", "ec2:TerminateInstances", "ec2:GetConsoleOutput"]
        Resource  = "${local.ec2}:instance/*"
        Condition = { StringEquals = { "aws:ResourceTag/sskai:managed-by" = "sskai-${service}" } }
      },
      {
        Sid       = "GiveMachinesTheirRole"
        Effect    = "Allow"
        Action    = ["iam:PassRole"]
        Resource  = "arn:${local.partition}:iam::${local.account}:role/${local.pod_role}"
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      },
      {
        Sid      = "Secrets"
        Effect   = "Allow"
        Action   = ["ssm:GetParameters"]
        Resource = "arn:${local.partition}:ssm:*:${local.account}:parameter/sskai/*"
      },
      {
        Sid      = "Images"
        Effect   = "Allow"
        Action   = ["ssm:GetParameter"]
        Resource = "arn:${local.partition}:ssm:*::parameter/aws/service/*"
      },
      {
        Sid      = "Boot"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = "${var.bucket_arn}/jobs/*/boot/*"
      },
    ]
  }

  cloud = {
    external-secrets = [
      {
        Sid      = "Secrets"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = var.secrets.arns
      },
      {
        Sid       = "TheirKey"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = var.secrets.key_arn
        Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${local.region}.amazonaws.com" } }
      },
    ]

    optimizer = [{
      Sid    = "PricesAndTypes"
      Effect = "Allow"
      Action = [
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeAvailabilityZones",
        "ec2:GetSpotPlacementScores",
        "pricing:GetProducts",
      ]
      Resource = "*"
    }]

    scheduler = [for statement in local.launching.scheduler : statement if var.direct_ec2]
    inference = [for statement in local.launching.inference : statement if var.direct_ec2]

    monitor = [for arns in [var.interruption_queue_arns] : {
      Sid      = "Interruptions"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
      Resource = arns
    } if length(arns) > 0]
  }
}

resource "aws_iam_role" "machine" {
  count = var.direct_ec2 ? 1 : 0

  name = local.pod_role
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "machine" {
  count = var.direct_ec2 ? 1 : 0

  name = "sskai"
  role = aws_iam_role.machine[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ItsOwnTags"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = "$${ec2:SourceInstanceARN}"
        Condition = {
          "ForAllValues:StringEquals" = {
            "aws:TagKeys" = ["sskai:exit-code", "sskai:ended-at", "sskai:terminates-at", "sskai:rebalance-at"]
          }
        }
      },
      {
        Sid      = "Secrets"
        Effect   = "Allow"
        Action   = ["ssm:GetParameter"]
        Resource = "arn:${local.partition}:ssm:*:${local.account}:parameter/sskai/*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "machine" {
  count = var.direct_ec2 ? 1 : 0

  role       = aws_iam_role.machine[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"
}

resource "aws_iam_instance_profile" "machine" {
  count = var.direct_ec2 ? 1 : 0

  name = local.pod_role
  role = aws_iam_role.machine[0].name
}
