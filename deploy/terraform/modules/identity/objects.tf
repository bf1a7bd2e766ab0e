# Keys lie under `tenants/TENANT/{datasets,code}/`, `models/MODEL/` (uploaded weights) and
# `jobs/JOB/{fences,ends,checkpoints,artifact,logs,boot}/`.
locals {
  # Services may list: without it S3 answers 403 where a key is not there.
  list = {
    Sid      = "List"
    Effect   = "Allow"
    Action   = ["s3:ListBucket"]
    Resource = var.bucket_arn
  }

  # Pods may not see which tenants there are. (S3 answers them 403 for a key that is not there; sskai/objects.py looks
  # then whether it is.)
  list_results = {
    Sid       = "ListJobsAndModels"
    Effect    = "Allow"
    Action    = ["s3:ListBucket"]
    Resource  = var.bucket_arn
    Condition = { StringLike = { "s3:prefix" = ["jobs/*", "models/*"] } }
  }

  read_models = {
    Sid      = "Models"
    Effect   = "Allow"
    Action   = ["s3:GetObject"]
    Resource = ["${var.bucket_arn}/jobs/*/artifact/*", "${var.bucket_arn}/models/*", "${var.bucket_arn}/tenants/*/code/*"]
  }

  objects = {
    gateway = [
      local.list,
      {
        Sid    = "WhatUsersBring"
        Effect = "Allow"
        Action = [
          "s3:GetObject",
          "s3:PutObject",
          "s3:DeleteObject",
          "s3:AbortMultipartUpload",
          "s3:ListMultipartUploadParts",
        ]
        Resource = ["${var.bucket_arn}/tenants/*", "${var.bucket_arn}/models/*"]
      },
      {
        Sid      = "ResultsThatUsersDelete"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:DeleteObject"]
        Resource = ["${var.bucket_arn}/jobs/*/artifact/*"]
      },
    ]

    optimizer = [
      {
        Sid      = "ModelsAsCode"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.bucket_arn}/tenants/*/code/*"]
      },
    ]

    scheduler = [
      local.list,
      {
        Sid      = "Logs"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"]
        Resource = ["${var.bucket_arn}/jobs/*/logs/*"]
      },
    ]

    trainer = [
      local.list,
      {
        Sid      = "Results"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.bucket_arn}/jobs/*/artifact/*"]
      },
      {
        Sid      = "WhatEndedJobsLeave"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${var.bucket_arn}/jobs/*/ends/*", "${var.bucket_arn}/jobs/*/checkpoints/*"]
      },
    ]

    inference = [local.list, local.read_models]

    monitor = [
      local.list,
      {
        Sid      = "ReferencesForDrift"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.bucket_arn}/tenants/*/datasets/*"]
      },
    ]

    # Pods of jobs, in which users' code runs. They change only what belongs to jobs, and of it no logs.
    trainer-pods = [
      local.list_results,
      {
        Sid    = "Read"
        Effect = "Allow"
        Action = ["s3:GetObject"]
        Resource = concat(
          [for folder in local.pod_folders : "${var.bucket_arn}/jobs/*/${folder}/*"],
          ["${var.bucket_arn}/models/*", "${var.bucket_arn}/tenants/*/datasets/*", "${var.bucket_arn}/tenants/*/code/*"],
        )
      },
      {
        Sid      = "Write"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
        Resource = [for folder in local.pod_folders : "${var.bucket_arn}/jobs/*/${folder}/*"]
      },
      {
        Sid      = "OldCheckpoints"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${var.bucket_arn}/jobs/*/checkpoints/*"]
      },
    ]

    # Replicas of endpoints only read.
    replica-pods = [local.list_results, local.read_models]
  }

  pod_folders = ["fences", "ends", "checkpoints", "artifact"]
}
