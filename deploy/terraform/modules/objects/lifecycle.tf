# SSKAI deletes checkpoints, uploads and datasets itself. What is left to the bucket: versions of what was deleted, parts
# of uploads that nobody completed, and jobs' logs, which are found by their tag since the job's id comes first in a key.
resource "aws_s3_bucket_lifecycle_configuration" "objects" {
  bucket = aws_s3_bucket.this["objects"].id

  rule {
    id     = "deleted-and-overwritten"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.deleted_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  rule {
    id     = "uploads-that-nobody-completed"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }

  rule {
    id     = "logs-of-jobs"
    status = "Enabled"

    filter {
      tag {
        key   = "sskai-kind"
        value = "log"
      }
    }

    expiration {
      days = var.log_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "access" {
  count = var.access_log ? 1 : 0

  bucket = aws_s3_bucket.this["access"].id

  rule {
    id     = "access-log"
    status = "Enabled"

    filter {}

    expiration {
      days = var.log_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
