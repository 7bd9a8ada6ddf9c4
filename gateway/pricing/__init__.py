"""What tokens cost: usage alike for every provider, prices with source and date, costs in integers."""

from gateway.pricing.cost import Cost, Tariff, tariff
from gateway.pricing.price import Above, Price, Tier, Tiers, named
from gateway.pricing.table import Facts, Known, PriceList, Prices, built_in, decode, encode, provider_of
from gateway.pricing.usage import Usage

__all__ = [
    "Above", "Cost", "Facts", "Known", "Price", "PriceList", "Prices", "Tariff", "Tier", "Tiers", "Usage", "built_in",
    "decode", "encode", "named", "provider_of", "tariff",
]
