# AWS knows a tag only some hours after the first bill line that carries it: hence not at the first apply.
resource "aws_ce_cost_allocation_tag" "this" {
  for_each = var.activate_tags ? var.tag_keys : []

  tag_key = each.value
  status  = "Active"
}

locals {
  notifications = [
    { type = "ACTUAL", percent = 50 },
    { type = "ACTUAL", percent = 80 },
    { type = "ACTUAL", percent = 100 },
    { type = "FORECASTED", percent = 100 },
  ]
}

resource "aws_budgets_budget" "this" {
  count = length(var.emails) > 0 ? 1 : 0

  name         = "${var.name}-monthly"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_usd)
  limit_unit   = "USD"

  dynamic "cost_filter" {
    for_each = var.activate_tags ? [1] : []

    content {
      name   = "TagKeyValue"
      values = ["user:sskai:installation$${var.name}"]
    }
  }

  dynamic "notification" {
    for_each = local.notifications

    content {
      comparison_operator        = "GREATER_THAN"
      notification_type          = notification.value.type
      threshold                  = notification.value.percent
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.emails
    }
  }

  depends_on = [aws_ce_cost_allocation_tag.this]
}
