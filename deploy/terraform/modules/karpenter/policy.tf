# What Karpenter 1.x asks for (its own reference: "CloudFormation" on karpenter.sh). It changes and ends only what
# carries this cluster's tag. An EC2NodeClass with `role` needs the instance profiles; one with `instanceProfile` does not.
locals {
  owned    = { "aws:ResourceTag/kubernetes.io/cluster/${var.name}" = "owned" }
  to_own   = { "aws:RequestTag/kubernetes.io/cluster/${var.name}" = "owned", "aws:RequestTag/eks:eks-cluster-name" = var.name }
  pooled   = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
  to_pool  = { "aws:RequestTag/karpenter.sh/nodepool" = "*" }
  ec2      = "arn:${local.partition}:ec2:${local.region}"
  ec2_here = "arn:${local.partition}:ec2:${local.region}:${local.account}"
  profiles = "arn:${local.partition}:iam::${local.account}:instance-profile/*"
  created = [
    for kind in ["fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request"] :
    "${local.ec2_here}:${kind}/*"
  ]

  statements = [
    {
      Sid      = "StartFrom"
      Effect   = "Allow"
      Action   = ["ec2:RunInstances", "ec2:CreateFleet"]
      Resource = ["${local.ec2}::image/*", "${local.ec2}::snapshot/*", "${local.ec2_here}:security-group/*", "${local.ec2_here}:subnet/*", "${local.ec2_here}:capacity-reservation/*"]
    },
    {
      Sid       = "StartFromTemplates"
      Effect    = "Allow"
      Action    = ["ec2:RunInstances", "ec2:CreateFleet"]
      Resource  = ["${local.ec2_here}:launch-template/*"]
      Condition = { StringEquals = local.owned, StringLike = local.pooled }
    },
    {
      Sid       = "Start"
      Effect    = "Allow"
      Action    = ["ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateLaunchTemplate"]
      Resource  = local.created
      Condition = { StringEquals = local.to_own, StringLike = local.to_pool }
    },
    {
      Sid      = "TagWhatIsStarted"
      Effect   = "Allow"
      Action   = ["ec2:CreateTags"]
      Resource = local.created
      Condition = {
        StringEquals = merge(local.to_own, { "ec2:CreateAction" = ["RunInstances", "CreateFleet", "CreateLaunchTemplate"] })
        StringLike   = local.to_pool
      }
    },
    {
      Sid      = "TagWhatRuns"
      Effect   = "Allow"
      Action   = ["ec2:CreateTags"]
      Resource = ["${local.ec2_here}:instance/*"]
      Condition = {
        StringEquals                = local.owned
        StringLike                  = local.pooled
        StringEqualsIfExists        = { "aws:RequestTag/eks:eks-cluster-name" = var.name }
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"] }
      }
    },
    {
      Sid       = "End"
      Effect    = "Allow"
      Action    = ["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"]
      Resource  = ["${local.ec2_here}:instance/*", "${local.ec2_here}:launch-template/*"]
      Condition = { StringEquals = local.owned, StringLike = local.pooled }
    },
    {
      Sid    = "Look"
      Effect = "Allow"
      Action = [
        "ec2:DescribeCapacityReservations",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeInstanceTypeOfferings",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplates",
        "ec2:DescribePlacementGroups",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSubnets",
      ]
      Resource  = "*"
      Condition = { StringEquals = { "aws:RequestedRegion" = local.region } }
    },
    {
      Sid      = "LookAnywhere"
      Effect   = "Allow"
      Action   = ["pricing:GetProducts", "iam:ListInstanceProfiles"]
      Resource = "*"
    },
    {
      Sid      = "Images"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = "arn:${local.partition}:ssm:${local.region}::parameter/aws/service/*"
    },
    {
      Sid      = "Interruptions"
      Effect   = "Allow"
      Action   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
      Resource = var.queue_arn
    },
    {
      Sid       = "GiveNodesTheirRole"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = "arn:${local.partition}:iam::${local.account}:role/${local.node_role}"
      Condition = { StringEquals = { "iam:PassedToService" = ["ec2.amazonaws.com"] } }
    },
    {
      Sid      = "LookAtProfiles"
      Effect   = "Allow"
      Action   = ["iam:GetInstanceProfile"]
      Resource = local.profiles
    },
    {
      Sid      = "MakeProfiles"
      Effect   = "Allow"
      Action   = ["iam:CreateInstanceProfile"]
      Resource = local.profiles
      Condition = {
        StringEquals = merge(local.to_own, { "aws:RequestTag/topology.kubernetes.io/region" = local.region })
        StringLike   = { "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass" = "*" }
      }
    },
    {
      Sid      = "TagProfiles"
      Effect   = "Allow"
      Action   = ["iam:TagInstanceProfile"]
      Resource = local.profiles
      Condition = {
        StringEquals = merge(local.owned, local.to_own, {
          "aws:ResourceTag/topology.kubernetes.io/region" = local.region
          "aws:RequestTag/topology.kubernetes.io/region"  = local.region
        })
        StringLike = {
          "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass" = "*"
          "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass"  = "*"
        }
      }
    },
    {
      Sid      = "ChangeProfiles"
      Effect   = "Allow"
      Action   = ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile"]
      Resource = local.profiles
      Condition = {
        StringEquals = merge(local.owned, { "aws:ResourceTag/topology.kubernetes.io/region" = local.region })
        StringLike   = { "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass" = "*" }
      }
    },
    {
      Sid      = "FindTheCluster"
      Effect   = "Allow"
      Action   = ["eks:DescribeCluster"]
      Resource = var.cluster_arn
    },
  ]
}
