variable "project" {
  description = "Id of the project."
  type        = string
}

variable "service" {
  description = "Name of the App Engine service that runs as this account."
  type        = string
}

variable "account_id" {
  description = "Id of the account: the part of its e-mail address before the @."
  type        = string
}

variable "region" {
  description = "Location of the queues."
  type        = string
}

variable "queues" {
  description = "Short names of the queues into which the service enqueues tasks."
  type        = set(string)
}

variable "task_role" {
  description = "Full name of the role that allows to create tasks with an App Engine target, projects/P/roles/ID."
  type        = string
}

variable "secret_id" {
  description = "Full name of the secret with the signing keys, projects/P/secrets/NAME."
  type        = string
}

variable "reads_secret" {
  description = "Whether the service may read the secret."
  type        = bool
}

variable "acts_as_self" {
  description = "Whether the service's tasks carry an OIDC token of this account."
  type        = bool
}

variable "deployers" {
  description = "Members who may deploy versions that run as this account, such as user:me@example.com."
  type        = set(string)
}
