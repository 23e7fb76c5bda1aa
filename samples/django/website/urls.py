"""The view of each URL."""

from django.urls import path

from website import views

urlpatterns = [
    path("", views.index, name="index"),
    path("counter/increment", views.increment, name="increment"),
    path("counter/get", views.get, name="get"),
    path("custom/path", views.custom_path, name="custom_path"),
]
