variable "project" {
  description = "Id of the project."
  type        = string
}

variable "billing_account" {
  description = "Id of the billing account."
  type        = string
}

variable "amount" {
  description = "Whole units of the currency, a month."
  type        = number
}

variable "currency" {
  description = "ISO 4217 code. It must be the billing account's; null for that."
  type        = string
}

variable "thresholds" {
  description = "Parts of the amount at which mails go out to the billing account's administrators and users."
  type        = set(number)
}
