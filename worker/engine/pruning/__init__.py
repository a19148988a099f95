"""From a model and a target to a smaller model: structures, selection, surgery, principal basis, compensation."""
