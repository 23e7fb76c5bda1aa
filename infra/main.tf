module "naming" {
  source = "./modules/naming"

  project  = var.project
  region   = var.region
  services = var.services
}

module "index_yaml" {
  source = "./modules/index_yaml"

  files = var.index_yaml_files
}

module "project_services" {
  source = "./modules/project_services"

  project  = var.project
  services = concat(local.project_services, var.budget == null ? [] : ["billingbudgets.googleapis.com"])
}

module "datastore" {
  source = "./modules/datastore"

  project                = var.project
  location               = module.naming.database_location
  point_in_time_recovery = var.point_in_time_recovery
  delete_protection      = var.delete_protection
  indexes                = module.index_yaml.indexes
  ttl_kinds              = var.ttl_policies ? local.ttl_kinds : []

  depends_on = [module.project_services]
}

module "app_engine" {
  source = "./modules/app_engine"

  project  = var.project
  location = module.naming.app_engine_location

  # An app that finds no database makes one, which Terraform would then find in its way.
  depends_on = [module.project_services, module.datastore]
}

module "build_account" {
  source = "./modules/build_account"

  project = var.project

  # The account is made with the app.
  depends_on = [module.app_engine]
}

module "queues" {
  source = "./modules/queues"

  project  = var.project
  location = var.region
  queues   = var.queues

  depends_on = [module.project_services, module.app_engine]
}

module "signing_keys" {
  source = "./modules/signing_keys"

  project    = var.project
  secret_id  = module.naming.signing_keys_secret_id
  generation = var.signing_keys_generation

  depends_on = [module.project_services]
}

module "runtime_account" {
  source   = "./modules/runtime_account"
  for_each = var.services

  project      = var.project
  service      = each.value
  account_id   = module.naming.account_ids[each.value]
  region       = var.region
  queues       = module.queues.names
  secret_id    = module.signing_keys.secret_id
  acts_as_self = contains(var.oidc_services, each.value)
  deployers    = var.deployers

  depends_on = [module.project_services]
}

module "sweep" {
  source = "./modules/sweep"
  count  = var.sweep_scheduler == "cloud-scheduler" ? 1 : 0

  project         = var.project
  region          = var.region
  schedule        = var.sweep_schedule
  service         = var.sweep_service
  hostname        = module.app_engine.default_hostname
  service_account = module.runtime_account[var.sweep_service].email
}

module "dead_letter_alert" {
  source = "./modules/dead_letter_alert"

  project = var.project
  emails  = var.alert_emails

  depends_on = [module.project_services]
}

module "budget" {
  source = "./modules/budget"
  count  = var.budget == null ? 0 : 1

  project         = var.project
  billing_account = var.budget.billing_account
  amount          = var.budget.amount
  currency        = var.budget.currency
  thresholds      = var.budget.thresholds

  depends_on = [module.project_services]
}

locals {
  project_services = [
    "appengine.googleapis.com",
    "artifactregistry.googleapis.com", # where a deploy's build puts its image
    "cloudbuild.googleapis.com",       # which makes that image
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com", # cron.yaml needs it, too
    "cloudtasks.googleapis.com",
    "datastore.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com", # where a deploy uploads the app
  ]

  # The kinds of the library whose entities have a property `expires`. Dead letters have none: a person deletes those.
  ttl_kinds = ["_DeferredPayload", "_DeferredReceipt"]
}
