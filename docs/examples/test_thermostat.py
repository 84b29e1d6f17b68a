# SPDX-License-Identifier: MIT
"""An application and its tests: a thermostat tells a boiler the temperature, over whatever relay there is."""

import pytest

from gmesh.errors import SendRefused


class Boiler:
    """Burns while the last reading of its own thermostat is below 19 degrees."""

    def __init__(self, mesh):
        self.burning = False
        self.readings = []
        mesh.serve("temperature", self.received)

    def received(self, message):
        if message.source != "thermostat":
            return
        self.readings.append(float(message.data))
        self.burning = self.readings[-1] < 19.0


@pytest.fixture
def house(memory_mesh):
    """Two relays between thermostat and boiler, all up and routed."""
    mesh = memory_mesh()
    mesh.add("hall", "relay")
    mesh.add("attic", "relay")
    for name in ("thermostat", "boiler"):
        mesh.add(name, "client", peers=["hall", "attic"])
    mesh.start()
    mesh.run_until(lambda: mesh["thermostat"].reaches("boiler") and mesh["boiler"].reaches("thermostat"))
    return mesh


@pytest.fixture
def boiler(house):
    return Boiler(house["boiler"].client())


@pytest.fixture
def tell(house):
    """Sends a reading, until it is acknowledged; virtual time passes, real time hardly."""
    thermostat = house["thermostat"].client()
    return lambda degrees: house.result(thermostat.send("boiler", "temperature", str(degrees).encode()))


def test_a_cold_room_lights_the_boiler(house, boiler, tell):
    tell(17.5)
    assert boiler.burning
    tell(21)
    assert boiler.readings == [17.5, 21.0] and not boiler.burning


def test_a_dead_relay_costs_no_reading(house, boiler, tell):
    tell(20)
    used = house["thermostat"].path("boiler")[1]
    house[used].kill()
    tell(16)
    assert boiler.burning
    assert house["thermostat"].path("boiler")[1] != used


def test_a_silent_cable_is_routed_around(house, boiler, tell):
    used = house["thermostat"].path("boiler")[1]
    house.silence("thermostat", used)
    took = house.run_until(lambda: house["thermostat"].path("boiler")[1] != used)
    assert took <= 16
    tell(18)
    assert boiler.burning


def test_a_revoked_thermostat_heats_nothing(house, boiler, tell):
    tell(20)
    house.issuer.revoke(house["thermostat"].enrolled)
    house.publish("hall")
    house.run(1)
    with pytest.raises(SendRefused):
        tell(5)
    assert boiler.readings == [20.0]
