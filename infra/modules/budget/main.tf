data "google_project" "this" {
  project_id = var.project
}

resource "google_billing_budget" "this" {
  billing_account = var.billing_account
  display_name    = "${var.project}, a month"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      currency_code = var.currency
      units         = tostring(var.amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = var.thresholds
    content {
      threshold_percent = threshold_rules.value
    }
  }
}
