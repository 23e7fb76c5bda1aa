variable "project" {
  description = "Id of the Google Cloud project. The project must exist and have billing."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is ${jsonencode(var.project)}, which is not a project id: 6 to 30 lower-case letters, digits and hyphens, starting with a letter. Give the id, not the number or the display name; `gcloud projects list` shows it."
  }

  validation {
    condition     = contains(["default", var.project], terraform.workspace)
    error_message = "The workspace ${jsonencode(terraform.workspace)} holds the state of another project than ${jsonencode(var.project)}. Select the workspace of this project: terraform workspace select -or-create ${var.project}"
  }
}

variable "region" {
  description = "Region of the app, its queues and its data. An App Engine app can never move."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is ${jsonencode(var.region)}, which is not a region such as us-central1 or europe-west1. For App Engine's us-central and europe-west, give us-central1 and europe-west1."
  }
}

variable "services" {
  description = "App Engine services. Each one runs as a service account of its own."
  type        = set(string)
  default     = ["default"]
  nullable    = false

  validation {
    condition     = length(var.services) > 0
    error_message = "services is empty. App Engine requires a service named default: services = [\"default\"]"
  }

  validation {
    condition     = alltrue([for name in var.services : can(regex("^[a-z0-9]([a-z0-9-]{0,19}[a-z0-9])?$", name))])
    error_message = "services is ${jsonencode(var.services)}. A name has 1 to 21 lower-case letters, digits and hyphens: with the prefix deferred- it must fit into the 30 characters of an account id."
  }
}

variable "oidc_services" {
  description = "The services whose tasks go to a URL of yours with an OIDC token (DEFERRED_TARGET_URL). Their accounts may act as themselves."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.oidc_services, var.services)) == 0
    error_message = "oidc_services has ${jsonencode(setsubtract(var.oidc_services, var.services))}, which services lacks: ${jsonencode(var.services)}."
  }
}

variable "service_access" {
  description = "Limits of services, by service. A service not listed enqueues into every queue and reads the signing keys. queues are the queues into which the service enqueues; signing_keys = false keeps the keys from it, for services that neither create nor run tasks."
  type = map(object({
    queues       = optional(set(string))
    signing_keys = optional(bool, true)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = length(setsubtract(keys(var.service_access), var.services)) == 0
    error_message = "service_access has ${jsonencode(setsubtract(keys(var.service_access), var.services))}, which services lacks: ${jsonencode(var.services)}."
  }

  validation {
    condition = alltrue([
      for access in values(var.service_access) :
      access.queues == null || length(setsubtract(coalesce(access.queues, []), keys(var.queues))) == 0
    ])
    error_message = "In service_access, queues has a queue that the variable queues lacks. It has ${jsonencode(keys(var.queues))}."
  }

  validation {
    condition = alltrue([
      for access in values(var.service_access) : access.signing_keys || try(length(access.queues) == 0, false)
    ])
    error_message = "In service_access, a service without signing keys still enqueues, and the app would refuse its tasks. Add: queues = []"
  }

  validation {
    condition     = !contains(keys(var.service_access), var.sweep_service)
    error_message = "service_access limits ${jsonencode(var.sweep_service)}, which is the sweep_service: it sends tasks of every service into every queue. Remove it from service_access, or choose another sweep_service."
  }
}

variable "deployers" {
  description = "Members who may deploy versions that run as these accounts, such as user:me@example.com. The README lists the other roles that they need."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.deployers : can(regex("^(user|group|serviceAccount|principal|principalSet):.+$", member))])
    error_message = "deployers is ${jsonencode(var.deployers)}. Each member is user:EMAIL, group:EMAIL, serviceAccount:EMAIL, principal:... or principalSet:..."
  }
}

variable "queues" {
  description = "Cloud Tasks queues by name, with the settings that differ from the defaults of Cloud Tasks. Durations are in seconds. max_attempts = -1 retries for ever. log_sampling_ratio is the fraction of operations that Cloud Tasks logs."
  type = map(object({
    max_dispatches_per_second  = optional(number, 500)
    max_concurrent_dispatches  = optional(number, 1000)
    max_attempts               = optional(number, 100)
    max_retry_duration_seconds = optional(number, 0)
    min_backoff_seconds        = optional(number, 0.1)
    max_backoff_seconds        = optional(number, 3600)
    max_doublings              = optional(number, 16)
    log_sampling_ratio         = optional(number, 0)
  }))
  default  = { default = {} }
  nullable = false

  validation {
    condition     = contains(keys(var.queues), "default")
    error_message = "queues has ${jsonencode(keys(var.queues))}. The queue default is missing, which defer() uses by default. Add: default = {}"
  }

  validation {
    condition     = alltrue([for name in keys(var.queues) : can(regex("^[A-Za-z0-9-]{1,100}$", name))])
    error_message = "queues has ${jsonencode(keys(var.queues))}. A name has 1 to 100 letters, digits and hyphens."
  }

  validation {
    condition = alltrue([
      for queue in values(var.queues) :
      queue.max_dispatches_per_second > 0 && queue.max_dispatches_per_second <= 500 &&
      queue.max_concurrent_dispatches >= 1 && queue.max_concurrent_dispatches <= 5000
    ])
    error_message = "In queues, max_dispatches_per_second is more than 0 and at most 500, and max_concurrent_dispatches is 1 to 5000."
  }

  validation {
    condition = alltrue([
      for queue in values(var.queues) :
      (queue.max_attempts == -1 || queue.max_attempts >= 1) && queue.max_retry_duration_seconds >= 0 &&
      queue.min_backoff_seconds >= 0 && queue.min_backoff_seconds <= queue.max_backoff_seconds
    ])
    error_message = "In queues, max_attempts is -1 or at least 1, durations are 0 or more, and min_backoff_seconds is at most max_backoff_seconds."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.max_doublings >= 1])
    error_message = "In queues, max_doublings is at least 1. The provider does not send 0: the queue would keep its 16 doublings, and every plan would show a change."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.log_sampling_ratio >= 0 && queue.log_sampling_ratio <= 1])
    error_message = "In queues, log_sampling_ratio is from 0 (log no operation) to 1 (log every operation)."
  }
}

variable "concurrency_mode" {
  description = "Concurrency mode of the database's transactions: PESSIMISTIC, OPTIMISTIC or OPTIMISTIC_WITH_ENTITY_GROUPS. For a database that you adopt, give the mode that it has."
  type        = string
  default     = "PESSIMISTIC"
  nullable    = false

  validation {
    condition     = contains(["PESSIMISTIC", "OPTIMISTIC", "OPTIMISTIC_WITH_ENTITY_GROUPS"], var.concurrency_mode)
    error_message = "concurrency_mode is ${jsonencode(var.concurrency_mode)}. It is PESSIMISTIC, OPTIMISTIC or OPTIMISTIC_WITH_ENTITY_GROUPS."
  }
}

variable "point_in_time_recovery" {
  description = "Whether to keep past versions of the data for 7 days instead of 1 hour. They cost storage."
  type        = bool
  default     = true
  nullable    = false
}

variable "delete_protection" {
  description = "Whether to protect the database: Google refuses to delete it, and a destroy leaves it."
  type        = bool
  default     = true
  nullable    = false
}

variable "ttl_policies" {
  description = "Whether Datastore deletes expired entities of the library: payloads of tasks that never ran, and receipts of tasks that did."
  type        = bool
  default     = true
  nullable    = false
}

variable "index_yaml_files" {
  description = "The apps' index.yaml files. Terraform makes their composite indexes. A path is relative to infra/, or absolute."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for path in var.index_yaml_files : fileexists(path)])
    error_message = "index_yaml_files has ${jsonencode([for path in var.index_yaml_files : path if !fileexists(path)])}, which do not exist. The local cloud writes index.yaml when a query needs an index; an app without such queries needs no file."
  }
}

variable "signing_keys_generation" {
  description = "Number of the set of signing keys. Raise it after a leak: Terraform replaces all keys, and the app refuses tasks that are in flight. For a rotation, see the README."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.signing_keys_generation >= 1 && floor(var.signing_keys_generation) == var.signing_keys_generation
    error_message = "signing_keys_generation is ${var.signing_keys_generation}. It is a whole number, at least 1."
  }
}

variable "sweep_scheduler" {
  description = "The scheduler that requests sweeps of the outbox: cron.yaml, deployed with the app, or cloud-scheduler, a job that Terraform makes. Use exactly one."
  type        = string
  default     = "cron.yaml"
  nullable    = false

  validation {
    condition     = contains(["cron.yaml", "cloud-scheduler"], var.sweep_scheduler)
    error_message = "sweep_scheduler is ${jsonencode(var.sweep_scheduler)}. It is cron.yaml or cloud-scheduler."
  }
}

variable "sweep_service" {
  description = "The service that sweeps. It sends the tasks that any service left in the outbox."
  type        = string
  default     = "default"
  nullable    = false

  validation {
    condition     = contains(var.services, var.sweep_service)
    error_message = "sweep_service is ${jsonencode(var.sweep_service)}, which services lacks: ${jsonencode(var.services)}."
  }
}

variable "sweep_schedule" {
  description = "Schedule of the cloud-scheduler job, in the format of cron(5), in UTC."
  type        = string
  default     = "* * * * *"
  nullable    = false

  validation {
    condition     = length(regexall("\\S+", var.sweep_schedule)) == 5
    error_message = "sweep_schedule is ${jsonencode(var.sweep_schedule)}. It has the five fields of cron(5), such as \"*/5 * * * *\"."
  }
}

variable "alert_emails" {
  description = "E-mail addresses that get alerts on dead letters. Without any, only Cloud Monitoring shows the incidents."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "alert_emails has ${jsonencode([for address in var.alert_emails : address if !can(regex("^[^@\\s]+@[^@\\s]+$", address))])}, which are not e-mail addresses."
  }
}

variable "budget" {
  description = "Monthly budget in whole units of the billing account's currency. At each threshold, a fraction of the amount, Google mails the administrators and users of the billing account. Null makes no budget."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string) # ISO 4217; must equal the currency of the billing account
    thresholds      = optional(set(number), [0.5, 0.9, 1])
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "In budget, billing_account is an id such as 012345-6789AB-CDEF01; `gcloud billing accounts list` shows it."
  }

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "In budget, amount is a whole number, at least 1."
  }

  validation {
    condition     = var.budget == null || try(alltrue([for part in var.budget.thresholds : part > 0]), false)
    error_message = "In budget, thresholds are fractions of the amount, such as 0.5 for half. Each is more than 0."
  }
}

variable "adopt_existing" {
  description = "Existing resources of the project that Terraform imports instead of making them: app_engine, database, queues."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.adopt_existing, ["app_engine", "database", "queues"])) == 0
    error_message = "adopt_existing has ${jsonencode(setsubtract(var.adopt_existing, ["app_engine", "database", "queues"]))}. It may have app_engine, database and queues."
  }
}
