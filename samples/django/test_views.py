"""Tests of the views with Django's own test client. Both ``pytest`` and ``python manage.py test`` run them."""

from django.test import SimpleTestCase
from gae_deferred.testing.cloud import CloudForTests


class CounterTest(SimpleTestCase):
    """A SimpleTestCase, because TestCase needs a SQL database. The local cloud takes the place of the database."""

    @classmethod
    def setUpClass(cls):
        cls.local_cloud = cls.enterClassContext(CloudForTests())
        cls.enterClassContext(cls.local_cloud.in_use())
        super().setUpClass()

    def setUp(self):
        # Imported here because the app reads its environment when it is imported.
        from main import app

        self.local_cloud.reset()
        self.local_cloud.app = app

    def get(self, path):
        """Return the answer to a GET, in an NDB context: the test client bypasses wrap_wsgi_app, which opens one."""
        with self.local_cloud.context():
            return self.client.get(path, headers={"host": "localhost"})

    def test_the_count_grows_by_10_with_each_task(self):
        self.assertContains(self.get("/counter/increment"), "Deferred three tasks")
        assert self.get("/counter/get").content == b"0"

        self.local_cloud.queue.run_next()
        assert self.get("/counter/get").content == b"10"

        self.local_cloud.clock.advance(120)
        self.local_cloud.queue.run_all()
        assert self.get("/counter/get").content == b"30"
