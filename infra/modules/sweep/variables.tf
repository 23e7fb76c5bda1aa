variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Where the job is."
  type        = string
}

variable "schedule" {
  description = "When, in the format of cron(5), in UTC."
  type        = string
}

variable "service" {
  description = "App Engine service that sweeps."
  type        = string
}

variable "hostname" {
  description = "Where the app's default service is served."
  type        = string
}

variable "service_account" {
  description = "E-mail address of the account whose OIDC token proves the job."
  type        = string
}
