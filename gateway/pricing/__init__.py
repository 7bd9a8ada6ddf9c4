"""What tokens cost: usage alike for every provider, prices with source and date, costs in integers."""

from gateway.pricing.price import MODELS, PRICES_AS_OF, ModelFacts, Price, cost_micros
from gateway.pricing.usage import Usage

__all__ = ["MODELS", "PRICES_AS_OF", "ModelFacts", "Price", "Usage", "cost_micros"]
