output "budget" {
  description = "The budget's name; null: there is none."
  value       = one(aws_budgets_budget.this[*].name)
}
