resource "aws_kms_key" "this" {
  description             = "Passwords of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = var.kms_deletion_days
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-secrets"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_secretsmanager_secret" "this" {
  for_each = var.users

  name                    = each.value.secret
  description             = "User of SSKAI's services: ${each.key}"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}

# Made by AWS, written into the secret, and never stored in the state.
ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = var.password_version > 0 ? var.users : {}
  provider = aws.passwords

  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each = var.password_version > 0 ? var.users : {}

  secret_id                = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo_version = var.password_version
  secret_string_wo = jsonencode({
    username = each.value.username
    password = ephemeral.aws_secretsmanager_random_password.this[each.key].random_password
  })
}

resource "aws_secretsmanager_secret_policy" "kafka" {
  for_each = { for key, user in var.users : key => user if startswith(user.secret, "AmazonMSK_") }

  secret_arn = aws_secretsmanager_secret.this[each.key].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "BrokersRead"
      Effect    = "Allow"
      Principal = { Service = "kafka.amazonaws.com" }
      Action    = "secretsmanager:GetSecretValue"
      Resource  = aws_secretsmanager_secret.this[each.key].arn
    }]
  })
}
