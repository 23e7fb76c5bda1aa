variable "project" {
  description = "Id of the project."
  type        = string
}

variable "service" {
  description = "App Engine service that runs as this account."
  type        = string
}

variable "account_id" {
  description = "Id of the account, which is the part of its e-mail address before the @."
  type        = string
}

variable "region" {
  description = "Where the queues are."
  type        = string
}

variable "queues" {
  description = "Short names of the queues that the service puts tasks into."
  type        = set(string)
}

variable "secret_id" {
  description = "Full name of the secret that the service reads."
  type        = string
}

variable "acts_as_self" {
  description = "Whether the service makes tasks that carry an OIDC token of this account."
  type        = bool
}

variable "deployers" {
  description = "Who may deploy versions that run as this account."
  type        = set(string)
}
